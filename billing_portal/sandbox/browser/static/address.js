/* The countries of an address, named in the page's language. */

import { countryOptions, likelyCountry } from "./countries.js";

const country = document.getElementById("country");
country.append(...countryOptions(document.documentElement.lang));
country.value = country.dataset.chosen || likelyCountry();
