"""What runs inside a sandbox: the standard library alone, no import from the rest of evalsuite.

zygote   starts once a worker, never runs a program's code, makes two cells for each program
cell     a process in namespaces of its own, with limits, without any right
solution in one cell: the program, answering calls
checks   in the other cell: the checks, calling the solution, giving the verdict
channel  the messages between the two
values   the types that can be in a message
"""
