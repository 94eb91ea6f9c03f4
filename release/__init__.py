"""What is released beside sdist and wheel: one file that runs, archives and packages with it, their hashes.

    python -m release OUTPUT [--sign KEY]

    tport ─► freeze ─► one file                      tport-<version>-linux-<arch>
                │ └──► a folder ─► tree ─┬► tarball  tport-<version>-linux-<arch>-bin.tar.gz
                                         ├► deb      tport_<version>_<arch>.deb
                                         └► rpm      tport-<version>-1.<arch>.rpm

`make dist` runs it. It builds for the machine that it runs on; what it makes needs a glibc at least as
new as that machine's.
"""
