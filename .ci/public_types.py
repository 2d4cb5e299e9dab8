"""Fails where less than 99 % of the public names have a known type: what a user's checker sees.

The rest is scikit-learn's: the bases of the estimator have no types. Reads what
`pyright --verifytypes scoreode --outputjson` prints.
"""

import json
import sys

report = json.load(sys.stdin)["typeCompleteness"]
score = report["completenessScore"]
print(f"{score:.1%} of {sum(report['exportedSymbolCounts'].values())} public names are typed")
if score < 0.99:
    for symbol in report["symbols"]:
        for diagnostic in symbol["diagnostics"]:
            print(f"{symbol['name']}: {diagnostic['message']}")
    sys.exit(1)
