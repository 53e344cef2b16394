"""A payment service: for each order in its inbox it takes the payment and
publishes an event, in one transaction with the mark that the order is done."""

import os
import signal
import socket
import sys
import time

import psycopg
from psycopg.rows import namedtuple_row
from psycopg.types.json import Jsonb

WORKER = os.environ.get("WORKER", f"{socket.gethostname()}-{os.getpid()}")
LEASE_SECONDS = float(os.environ.get("LEASE_SECONDS", "30"))
POLL_SECONDS = int(os.environ.get("POLL_SECONDS", "5"))


class BadOrder(Exception):
    """Will never work."""


class UnknownCustomer(Exception):
    """May be known soon."""


class Payments:
    def __init__(self, db: psycopg.Connection):
        self.db = db
        self.stopping = False

    def take_payment(self, order: dict):
        order_id, customer, amount = order["order_id"], order["customer"], order["amount"]
        if not amount > 0:
            raise BadOrder(f"order {order_id} has the amount {amount}")
        self.db.execute(
            "insert into payments (order_id, customer, amount) values (%s, %s, %s)", (order_id, customer, amount))
        event = {"event_type": "payment.received", "order_id": order_id, "customer": customer, "amount": amount}
        self.db.execute(
            "select tide.outbox_publish('payment_events', 'payments', %s, key => %s)", (Jsonb(event), customer))
        updated = self.db.execute("update customers set paid = paid + %s where id = %s", (amount, customer))
        if updated.rowcount == 0:
            raise UnknownCustomer(f"there is no customer {customer} yet")

    def claim(self, most: int) -> list:
        return self.db.execute(
            """select id, lease_token, payload
               from tide.inbox_claim('payment_triggers', %s, %s, make_interval(secs => %s))""",
            (WORKER, most, LEASE_SECONDS)).fetchall()

    def held(self, function: str, messages: list, more: str = "", *arguments):
        """Calls a function that takes claimed messages."""
        self.db.execute(
            f"select tide.{function}('payment_triggers', %s, %s{more})",
            (messages[0].lease_token, [m.id for m in messages], *arguments))

    def fail(self, m, error: Exception):
        print(f"message {m.id}: {error!r}", file=sys.stderr)
        retry_in = "500 milliseconds" if isinstance(error, UnknownCustomer) else None  # None: longer each time
        self.held(
            "inbox_fail", [m], ", %s, retry_in => %s, give_up => %s", repr(error), retry_in, isinstance(error, BadOrder))

    def work_by_lease(self) -> bool:
        """The claim is committed at once; each message's work is a transaction of its own."""
        since = time.monotonic()
        messages = self.claim(10)
        for i, m in enumerate(messages):
            if self.stopping:
                self.held("inbox_release", messages[i:])
                break
            if time.monotonic() - since > LEASE_SECONDS / 3:
                since = time.monotonic()
                self.held("inbox_extend", messages[i:], ", make_interval(secs => %s)", LEASE_SECONDS)
            try:
                with self.db.transaction():
                    self.take_payment(m.payload)
                    self.held("inbox_complete", [m])
            except Exception as error:
                if lease_lost(error):
                    raise
                self.fail(m, error)
        return bool(messages)

    def work_in_one_transaction(self) -> bool:
        """Claim and work are one transaction; the inner one, a savepoint, undoes the work alone."""
        with self.db.transaction():
            messages = self.claim(1)
            for m in messages:
                try:
                    with self.db.transaction():
                        self.take_payment(m.payload)
                        self.held("inbox_complete", [m])
                except Exception as error:
                    self.fail(m, error)
            return bool(messages)

    def run(self, work):
        while not self.stopping:
            try:
                worked = work()
            except psycopg.Error as error:
                if not lease_lost(error):
                    raise
                worked = True  # others have the messages, and our work was rolled back
                print(error, file=sys.stderr)
            for _ in range(0 if worked else POLL_SECONDS):
                if self.stopping or any(True for _ in self.db.notifies(timeout=1, stop_after=1)):
                    break


def lease_lost(error: Exception) -> bool:
    return isinstance(error, psycopg.Error) and error.sqlstate == "TD001"


with psycopg.connect(
    os.environ["DATABASE_URL"], application_name=WORKER, autocommit=True, row_factory=namedtuple_row
) as connection:
    service = Payments(connection)
    signal.signal(signal.SIGTERM, lambda *_: setattr(service, "stopping", True))
    connection.execute("listen tide_inbox_payment_triggers")
    service.run(service.work_in_one_transaction if os.environ.get("MODE") == "transaction" else service.work_by_lease)
print("stopped")
