/* How a browser speaks Stripe's API: nested form encoding, a publishable key, errors in Stripe's shape. */

/** Write nested parameters the way Stripe reads them: `a[b][0][c]=d`. Leave out what is undefined. */
export const flatten = (value, name = "") => {
  if (value === undefined || value === null) return [];
  if (typeof value !== "object") return [[name, String(value)]];
  return Object.entries(value).flatMap(([key, inner]) => flatten(inner, name ? `${name}[${key}]` : key));
};

const CONNECTION_ERROR = {
  type: "api_connection_error",
  message: "An error occurred with our connection to Stripe. Please check your connection and try again.",
};

/** Call one endpoint; answer `{value}` or `{error}`, never throw. */
export const request = async (url, key, params, method) => {
  const form = new URLSearchParams(flatten(params));
  const headers = { Authorization: `Bearer ${key}` };
  try {
    const response =
      method === "GET"
        ? await fetch(`${url}?${form}`, { headers })
        : await fetch(url, { method, headers, body: form });
    const body = await response.json();
    return response.ok ? { value: body } : { error: body.error };
  } catch {
    return { error: CONNECTION_ERROR };
  }
};
