"""What the text files of the queue and the DB share.

Lines with a CRC, the layer of system calls, locks, the quarantine; the moments that their
records carry. And the ground that all packages stand on: what is installed where
(`installation`), how a command line ends, what is closed at the end of a `with`.
"""
