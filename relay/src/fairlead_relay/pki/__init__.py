"""The relay's keys and certificates: CA, server certificates, statement signer. No sockets, no store."""
