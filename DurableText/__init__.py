"""What the text files of the queue and the DB share.

Lines with a CRC, the layer of system calls, locks, the quarantine; the moments that their
records carry.
"""
