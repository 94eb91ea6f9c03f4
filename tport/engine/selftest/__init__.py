"""`tport selftest`: the path of a request measured with numbers, by one who goes it as visitors do.

    visitor ── TLS ──▶ proxy ══ tunnel ══ agent ──▶ application      through tport
       └──────────────────────────────────────────▶ application      direct

Alone, the proxy and the agent are children of this process, and the application is in it
(`upstream`). With an application's name, they are those that run, and it is that one.

    run ──▶ throwaway (children), visitor (signs up, opens)
     └────▶ probes (asks both ways in turn) ──▶ figures, headers (pure: values in, verdicts out)
"""
