SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  // Otherwise a badge from another host, which would be sent this one's address.
  validatorUrl: null,
});
