/* ISO 3166-1 codes of the countries Stripe's own list offers, named by the browser in the page's language. */

const CODES =
  "AE AL AM AO AR AT AU AZ BA BD BE BG BH BJ BO BR BW CA CH CI CL CO CR CY CZ DE DK DO DZ EC EE EG ES ET FI FR GB GE GH GI " +
  "GR GT HK HR HU ID IE IL IN IS IT JM JO JP KE KH KR KW KZ LB LI LK LT LU LV MA MC MD ME MG MK MO MT MU MX MY MZ NA NG NL " +
  "NO NZ OM PA PE PH PK PL PT PY QA RO RS RW SA SE SG SI SK SN SV TH TN TR TT TW TZ UG US UY UZ VN ZA ZM";

export const countryOptions = (locale) => {
  const names = new Intl.DisplayNames([locale, "en"], { type: "region" });
  return CODES.split(" ")
    .map((code) => new Option(names.of(code), code))
    .sort((one, other) => one.text.localeCompare(other.text, locale));
};

/** Guess the customer's country from the browser's language, as a form should. */
export const likelyCountry = () => {
  const region = new Intl.Locale(navigator.language || "en-US").region;
  return CODES.includes(region ?? "-") ? region : "US";
};
