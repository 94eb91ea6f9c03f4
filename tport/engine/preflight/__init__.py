"""What must be right around a cluster before it can serve: DNS, ports, clock, disk, certificates.

running.py      looks at everything at once, each look with a deadline
look_*.py       what is there: names, ports, answers, files
names, ports, machine, certificates, others     what it means, and what to do: pure
"""
