"""Writes a credential cache with a ticket that no realm ever gave.

libpq asks for GSSAPI encryption (GSSENCRequest) only where it finds a ticket,
whatever gssencmode says. The format is version 4 of
https://web.mit.edu/kerberos/krb5-latest/doc/formats/ccache_file_format.html
"""

import struct
import sys
import time

USER, INSTANCE = 1, 2  # Kinds of principal: KRB5_NT_PRINCIPAL, KRB5_NT_SRV_INST.
AES256 = 18
HOUR = 3600


def data(content):
    return struct.pack(">I", len(content)) + content


def principal(kind, *parts):
    return struct.pack(">II", kind, len(parts)) + b"".join(map(data, (b"EXAMPLE.COM", *parts)))


def main(path):
    now = int(time.time())
    client = principal(USER, b"app")
    ticket = b"".join([
        client,
        principal(INSTANCE, b"krbtgt", b"EXAMPLE.COM"),
        struct.pack(">H", AES256) + data(bytes(32)),
        struct.pack(">IIII", now, now, now + HOUR, now + HOUR),
        struct.pack(">BI", 0, 0),  # Not in a session key of another; no flags.
        struct.pack(">II", 0, 0),  # No addresses, no authorisation data.
        data(b"ticket"),
        data(b""),
    ])
    with open(path, "wb") as file:
        file.write(struct.pack(">BBH", 5, 4, 0) + client + ticket)


main(sys.argv[1])
