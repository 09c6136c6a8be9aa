"""Moving data in from other servers, out to them, and to and from archives."""
