"""Tasks that rft can generate: data only, nothing in the library depends on them."""
