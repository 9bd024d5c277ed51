"""The customer's pages, one module an area. Views translate, make one domain call, and answer."""
