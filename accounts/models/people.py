"""People, the organizations they pay for, and the keys of their programs."""

import hashlib
import secrets
import uuid
import zoneinfo
from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar

import pgtrigger
from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.functions import RandomUUID
from django.core.exceptions import ValidationError
from django.db import connection, models
from django.db.models.functions import Lower

from accounts.phrased import Columns


def validate_time_zone(name: str) -> None:
    """Refuse a name that the time zone database does not know."""
    if name not in zoneinfo.available_timezones():
        raise ValidationError("%(name)s is not a time zone of the IANA database.", params={"name": name})


class UserManager(BaseUserManager["User"]):
    use_in_migrations = True

    def create_user(self, email: str, password: str | None = None, **fields: object) -> "User":
        """Create a user; addresses are kept in lower case, so that one mailbox is one person."""
        user = self.model(email=email.strip().lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: object) -> "User":
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)

    def get(self, *conditions: Any, **named: Any) -> "User":
        """Return the one that fits. By its key alone each page's request asks for one: that is phrased once."""
        if conditions or named.keys() != {"pk"} or self._db:
            return super().get(*conditions, **named)
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT {_USER.sql} FROM accounts_user u WHERE u.id = %s", [named["pk"]])  # noqa: S608 - a model's
            row = cursor.fetchone()
        if row is None:
            raise User.DoesNotExist
        return _USER.read(row)

    def get_by_natural_key(self, username: str | None) -> "User":
        return self.get(email=(username or "").lower())


class User(AbstractBaseUser, PermissionsMixin):
    """A person, known by an e-mail address."""

    email = models.EmailField("e-mail address", max_length=254, unique=True)
    name = models.CharField(max_length=120, blank=True)
    is_staff = models.BooleanField("staff", default=False, help_text="May open the staff desk (with MFA).")
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    objects: ClassVar[UserManager] = UserManager()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(email=Lower("email")), name="user_email_is_in_lower_case"),
        ]

    def __str__(self) -> str:
        return self.email

    def get_full_name(self) -> str:
        return self.name or self.email

    def get_short_name(self) -> str:
        return self.name.split(" ")[0] if self.name else self.email


_USER = Columns(User, "u")


class Organization(models.Model):
    """The paying customer: the unit of isolation, of locking and of sharding.

    `reference` is the vendor's own name for it and what API items carry as `organization`.
    `currency` is fixed at the first charge. A change of time zone waits in `next_time_zone` until the period
    ends. `sign_up_token` was minted with the form that made it: a double submit makes one organization.
    """

    class Status(models.TextChoices):
        ACTIVE = "active", "Active"
        SUSPENDED = "suspended", "Suspended"
        CLOSED = "closed", "Closed"

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    reference = models.SlugField(max_length=64, unique=True)
    name = models.CharField(max_length=120)
    currency = models.CharField(max_length=3)
    time_zone = models.CharField(max_length=64, default="UTC", validators=[validate_time_zone])
    next_time_zone = models.CharField(max_length=64, blank=True, default="", validators=[validate_time_zone])
    status = models.CharField(max_length=16, choices=Status, default=Status.ACTIVE)
    billing_email = models.EmailField(blank=True, default="")
    invoice_recipients = ArrayField(
        models.EmailField(), default=list, blank=True, help_text="Who reads about money beside the billing address."
    )
    sign_up_token = models.UUIDField(null=True, blank=True, unique=True, editable=False)
    users: "models.ManyToManyField[User, Membership]" = models.ManyToManyField(
        User, through="Membership", related_name="organizations"
    )
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["name", "id"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(currency__regex="^[A-Z]{3}$"),
                name="organization_currency_is_three_capitals",
            ),
            models.CheckConstraint(
                condition=models.Q(status__in=["active", "suspended", "closed"]),
                name="organization_status_is_known",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def zone(self) -> zoneinfo.ZoneInfo:
        """The time zone in which this organization's days and months begin."""
        return zoneinfo.ZoneInfo(self.time_zone)


class Membership(models.Model):
    """The role of one person in one organization.

    `beside` are all memberships of the person, this one among them, where `access` loaded them with it.
    """

    beside: "Sequence[Membership]" = ()

    class Role(models.TextChoices):
        OWNER = "owner", "Owner"
        ADMIN = "admin", "Administrator"
        BILLING = "billing", "Billing manager"
        DEVELOPER = "developer", "Developer"
        VIEWER = "viewer", "Viewer"

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="memberships")
    user = models.ForeignKey(User, on_delete=models.PROTECT, related_name="memberships")
    role = models.CharField(max_length=16, choices=Role)
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "user"], name="membership_is_one_per_person"),
            models.CheckConstraint(
                condition=models.Q(role__in=["owner", "admin", "billing", "developer", "viewer"]),
                name="membership_role_is_known",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user_id} in {self.organization_id} as {self.role}"


class TermsAcceptance(models.Model):
    """That a person accepted a version of the terms, and when.

    At sign-up there is no organization yet: that row binds the person. Registering an organization adds the
    row that binds the organization. Rows are evidence: never changed, never deleted.
    """

    organization = models.ForeignKey(
        Organization, null=True, blank=True, on_delete=models.PROTECT, related_name="terms_acceptances"
    )
    user = models.ForeignKey(User, on_delete=models.PROTECT, related_name="terms_acceptances")
    version = models.CharField(max_length=32)
    accepted_at = models.DateTimeField()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["user", "organization", "version"],
                nulls_distinct=False,
                name="terms_acceptance_is_kept_once",
            ),
        ]
        triggers = [
            pgtrigger.Protect(name="terms_acceptance_is_evidence", operation=pgtrigger.Update | pgtrigger.Delete),
        ]

    def __str__(self) -> str:
        return f"{self.version} by {self.user_id} for {self.organization_id}"


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    def usable(self, *, now: datetime) -> "ApiKeyQuerySet":
        """Only keys that are neither revoked nor expired at `now`."""
        not_expired = models.Q(expires_at__isnull=True) | models.Q(expires_at__gt=now)
        return self.filter(not_expired, revoked_at__isnull=True)


class ApiKey(models.Model):
    """A program's key. Only its SHA-256 is kept; the prefix lets people tell keys apart.

    A key without an organization is the vendor's and may write for all of them; an organization's key only
    reads, and only its own. `form_token` was minted with the form that made it: a double submit makes one key.
    A key that was rotated expires by `expires_at` too; the one that took its place names it in `replaces`.
    """

    class Scope(models.TextChoices):
        CALLS_WRITE = "calls:write", "Record calls"
        SPEND_AUTHORIZE = "spend:authorize", "Ask whether calls may be made, and reserve money for them"
        USAGE_READ = "usage:read", "Read usage"
        BILLING_READ = "billing:read", "Read invoices and credits"

    # What only the vendor's keys may have.
    VENDOR_SCOPES = (Scope.CALLS_WRITE, Scope.SPEND_AUTHORIZE)

    organization = models.ForeignKey(
        Organization, null=True, blank=True, on_delete=models.PROTECT, related_name="api_keys"
    )
    public_id = models.UUIDField(db_default=RandomUUID(), unique=True, editable=False)
    name = models.CharField(max_length=80)
    prefix = models.CharField(max_length=16)
    digest = models.BinaryField(max_length=32, unique=True, editable=False)
    scopes = ArrayField(models.CharField(max_length=32, choices=Scope))
    created_at = models.DateTimeField()
    created_by = models.ForeignKey(User, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    form_token = models.UUIDField(null=True, blank=True, editable=False)
    replaces = models.ForeignKey("self", null=True, blank=True, on_delete=models.PROTECT, related_name="replacements")
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    revoked_by = models.ForeignKey(User, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    last_used_at = models.DateTimeField(null=True, blank=True)

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        verbose_name = "API key"
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(organization__isnull=True)
                | ~models.Q(scopes__overlap=["calls:write", "spend:authorize"]),
                name="api_key_of_an_organization_only_reads",
            ),
            models.UniqueConstraint(
                fields=["organization", "form_token"],
                condition=models.Q(form_token__isnull=False),
                nulls_distinct=False,
                name="api_key_is_made_once_per_form",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    def is_usable(self, *, now: datetime) -> bool:
        """Say whether the key is neither revoked nor expired at `now`; the same rule as the query set's."""
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > now)

    @staticmethod
    def new_secret(*, vendor: bool) -> str:
        """Return a fresh secret of 256 random bits; it is shown once and never stored."""
        return f"bp_{'vendor' if vendor else 'org'}_{secrets.token_urlsafe(32)}"

    @staticmethod
    def digest_of(secret: str) -> bytes:
        """Return what is stored for `secret`. Random keys need no slow hash."""
        return hashlib.sha256(secret.encode()).digest()
