"""Keys, certificates and signatures: who signs, what a certificate says, every TLS context.

    keys         key pairs as PEM, CSRs, thumbprints
    authority    the four authorities and what they issue; the pin of a cluster
    identity     Identity ⇄ one critical X.509 extension
    jwt          the app's assertion, JWKS, the session credential that agents check
    contexts     every ssl.SSLContext is made here

Pure but for the CPU: nothing here reads a file or asks the clock.
"""
