"""Moving data in from other servers: files that they wrote, or a server that goes on writing."""
