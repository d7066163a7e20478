"""The interactive documents: what every route takes and gives, as OpenAPI 3.1, made from the code."""
