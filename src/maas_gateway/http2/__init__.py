"""HTTP/2 as the gRPC door needs it: a server's side, on asyncio, in the process's one thread.

`connection` takes frames in and answers those that are about the connection itself; `stream` is what a call is answered
through; `sending` keeps what a peer may be sent; `patience` bounds what a peer may ask for without getting anywhere;
`port` listens. It exists because of speed: `docs/decisions/0014` has the figures.

Source: RFC 9113 (HTTP/2), RFC 7541 (HPACK, by the library `hpack`).
"""
