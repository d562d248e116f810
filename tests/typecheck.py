"""The checker that jaxtyping's import hook applies: beartype, taking an int for a float."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
