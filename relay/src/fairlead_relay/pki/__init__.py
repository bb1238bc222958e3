"""The relay's keys and certificates: certificate authority, server certificates, statement signer. No sockets, no store."""
