"""tport measured beside what people would pick instead, on the same work, in the same run.

    make bench          every stack and row, at most 10 minutes; writes build/bench.json
    make bench-quick    less work on the rows that move first, at most 90 s
    make bench-micro    what each function on the way of a request costs (`micro`)

Each stack stands before the same applications. Rounds are interleaved (a round measures every stack
once), and of rounds the median is told, so that what else the machine does falls on all alike. The
figure that counts is CPU per request, summed over all processes of a stack: it survives noise that
requests per second do not. The load generators' and the applications' CPU is nobody's.

    rows                    what is measured, of which stacks
    bars                    what tport is held to
    report                  medians, ratios, tables
    stack, stacks           what a stack is; all of them
    cluster, crowd_stack    tport as installed; with 1,000 applications (`crowd`: their agents)
    peers                   the others
    upstream, origin        the applications behind every stack: nginx, and one of the bench's own
    relay                   a line of 50 ms
    wrk, h2load, curl       load generators: at full speed, at a pace, of bulk
    websockets, idle        load of our own
    door                    where they knock
    cpu, parts, versions    CPU time and memory; the programs needed; what they are
"""
