"""tport measured beside what people would pick instead, on the same work, in the same run.

    make bench          every stack and row, at most 10 minutes; writes build/bench.json and .svg
    make bench-quick    tport, nginx + ssh -R and Caddy on the rows that move first, at most 90 s

Each stack stands before the same nginx, which serves the same files. Rounds are interleaved (a round
measures every stack once), and of rounds the median is told, so that what else the machine does falls
on all alike. The figure that counts is CPU per request, summed over all processes of a stack: it
survives noise that requests per second do not. The load generator's and the upstream's CPU is nobody's.

    parts      the programs it needs, and where they are
    cpu        CPU time and memory of trees of processes
    upstream   the nginx behind every stack
    stacks     one for each way to put a proxy before it
    wrk        the load generator, and what it said
    rows       what is measured
    report     medians, ratios, the table
"""
