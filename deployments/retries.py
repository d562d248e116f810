"""A budget of retries: when everything fails, trying all of it again makes things worse."""

DEPOSIT = 0.2
CAPACITY = 64.0


class RetryBudget:
    """One retry in five requests, and as many as a lost replica may have had, at once."""

    def __init__(self) -> None:
        self._balance = CAPACITY

    def deposit(self) -> None:
        """Count a request."""
        self._balance = min(CAPACITY, self._balance + DEPOSIT)

    def spend(self) -> bool:
        """Take one retry out, if there is one."""
        if self._balance < 1:
            return False
        self._balance -= 1
        return True
