// The `type` of a problem is docs#CODE: it leads to the section of its code.
if (/^#[A-Z_]+$/.test(location.hash)) {
  location.replace("docs/errors" + location.hash);
} else {
  // Shows openapi.json. Nothing is sent elsewhere: validatorUrl would send the document to a public validator.
  SwaggerUIBundle({
    url: "openapi.json",
    dom_id: "#viewer",
    deepLinking: true,
    validatorUrl: null,
    docExpansion: "list",
    defaultModelsExpandDepth: 0,
    tryItOutEnabled: true,
    persistAuthorization: false,
    // The viewer adds the token that was entered to every call that may be sent with one. A guest's call has the token
    // of its appointment instead, and no other.
    requestInterceptor: (request) => {
      if ("Guest-Token" in request.headers || /"cancellationToken"\s*:\s*"/.test(request.body)) {
        delete request.headers.Authorization;
      }
      return request;
    },
  });
}
