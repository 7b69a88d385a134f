"""An example of a broker that another package brings: messages in the memory of one process.

`state` is the broker, `server` lets other processes of this machine reach it, and `handler` is what
an author writes. It keeps nothing on disk: when the server ends, so do the messages.
"""
