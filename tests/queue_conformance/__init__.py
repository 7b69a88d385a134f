"""What every queue does, whichever engine stands behind the interface: one test a behaviour."""
