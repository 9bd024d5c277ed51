/* What a card field knows without asking anyone: brands, spacing, checksums, dates. Wordings are Stripe's. */

const BRANDS = [
  { brand: "amex", starts: /^3[47]/, lengths: [15], cvc: 4, groups: [4, 6, 5] },
  { brand: "diners", starts: /^3(0|6|8)/, lengths: [14, 16], cvc: 3 },
  { brand: "discover", starts: /^6(011|4[4-9]|5)/, lengths: [16], cvc: 3 },
  { brand: "jcb", starts: /^35/, lengths: [16], cvc: 3 },
  { brand: "unionpay", starts: /^62/, lengths: [16, 17, 18, 19], cvc: 3 },
  { brand: "mastercard", starts: /^(5[1-5]|2[2-7])/, lengths: [16], cvc: 3 },
  { brand: "visa", starts: /^4/, lengths: [16], cvc: 3 },
];
const UNKNOWN = { brand: "unknown", lengths: [16], cvc: 3 };

export const digits = (text) => text.replace(/\D/g, "");
export const kindOf = (number) => BRANDS.find(({ starts }) => starts.test(number)) ?? UNKNOWN;

export const spaceNumber = (text) => {
  const kind = kindOf(digits(text));
  const number = digits(text).slice(0, Math.max(...kind.lengths));
  const groups = [];
  for (let at = 0; at < number.length; at += groups.at(-1).length) {
    groups.push(number.slice(at, at + (kind.groups?.[groups.length] ?? 4)));
  }
  return groups.join(" ");
};

/** Write `1/3` as `01 / 3` and `123` as `12 / 3`; leave a lone month alone so that it can be deleted. */
export const spaceExpiry = (text) => {
  const typed = text.replace(/[^\d/]/g, "");
  const [first, rest] = typed.includes("/") ? typed.split("/") : [typed.slice(0, 2), typed.slice(2)];
  const month = /^[2-9]$/.test(first) || (typed.includes("/") && first.length === 1) ? `0${first}` : first;
  const year = rest.length === 4 && rest.startsWith("20") ? rest.slice(2) : rest.slice(0, 2);
  return month.length === 2 && (year || text.endsWith("/")) ? `${month} / ${year}` : month;
};

const passesLuhn = (number) =>
  [...number].reverse().reduce((sum, digit, place) => {
    const value = Number(digit) * (place % 2 ? 2 : 1);
    return sum + (value > 9 ? value - 9 : value);
  }, 0) % 10 === 0;

const numberFault = (number) => {
  if (!kindOf(number).lengths.includes(number.length)) return ["incomplete_number", "Your card number is incomplete."];
  return passesLuhn(number) ? null : ["invalid_number", "Your card number is invalid."];
};

const expiryFault = (expiry, now) => {
  if (expiry.length !== 4) return ["incomplete_expiry", "Your card’s expiration date is incomplete."];
  const [month, year] = [Number(expiry.slice(0, 2)), 2000 + Number(expiry.slice(2))];
  if (month < 1 || month > 12) return ["invalid_expiry_month", "Your card’s expiration month is invalid."];
  if (year < now.getUTCFullYear()) return ["invalid_expiry_year_past", "Your card’s expiration year is in the past."];
  const isPast = year === now.getUTCFullYear() && month < now.getUTCMonth() + 1;
  return isPast ? ["invalid_expiry_month_past", "Your card’s expiration date is in the past."] : null;
};

const cvcFault = (cvc, number) =>
  cvc.length === kindOf(number).cvc ? null : ["incomplete_cvc", "Your card’s security code is incomplete."];

const ZIP_COUNTRIES = ["US", "GB", "CA"];
export const wantsPostalCode = (country) => ZIP_COUNTRIES.includes(country);
const postalFault = (postal, country) =>
  wantsPostalCode(country) && postal.trim().length < (country === "US" ? 5 : 3)
    ? ["incomplete_zip", country === "US" ? "Your ZIP is incomplete." : "Your postal code is incomplete."]
    : null;

/** Map each faulty field to `[code, message]`; an empty map means the card may be sent. */
export const faults = ({ number, expiry, cvc, country, postal }, now) => {
  const found = {
    number: numberFault(digits(number)),
    expiry: expiryFault(digits(expiry), now),
    cvc: cvcFault(digits(cvc), digits(number)),
    postal: postalFault(postal, country),
  };
  return Object.fromEntries(Object.entries(found).filter(([, fault]) => fault));
};

/** The card as the API takes it. */
export const asParams = ({ number, expiry, cvc }) => ({
  number: digits(number),
  exp_month: Number(digits(expiry).slice(0, 2)),
  exp_year: 2000 + Number(digits(expiry).slice(2)),
  cvc: digits(cvc),
});
