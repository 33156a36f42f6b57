"""The runtime type checker of the tests: beartype, with an int accepted where a float is meant."""

import beartype

check = beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))
