"""`python -m i2v.worker --reports FD --parent PID`; started by the service, of no use by hand."""

import sys

from i2v.worker.main import main

sys.exit(main(sys.argv[1:]))
