"""Google Cloud Pub/Sub.

Its client libraries go by variables that they read when they are imported. So that is done here
first, before any module of this package asks for them.
"""

import os
import warnings

# gRPC's C core may write to the terminal by itself. Its errors reach us as codes: nothing is
# missed.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
# Whether there is a metadata server google-auth asks three times, for 12 s where there is none. A
# Google machine whose server is slow to start is known by its hardware all the same.
os.environ.setdefault("GCE_METADATA_DETECT_RETRIES", "1")

with warnings.catch_warnings():
    # google.api_core and google.auth announce the end of their support for a Python at every start.
    warnings.simplefilter("ignore", FutureWarning)
    import google.auth
    import google.pubsub_v1  # noqa: F401
    import grpc  # noqa: F401
