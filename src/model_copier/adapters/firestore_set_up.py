"""What Firestore's refusals say about the set-up, and the command that mends each."""

from google.api_core.exceptions import FailedPrecondition, NotFound, PermissionDenied

from model_copier.adapters.firestore_documents import INDEXED
from model_copier.domain.errors import SetUpError


def to_be_mended(error: PermissionDenied | NotFound | FailedPrecondition) -> SetUpError:
    match error:
        case PermissionDenied() if error.reason == "SERVICE_DISABLED":
            what = "Firestore is switched off in the project"
            mends = "gcloud services enable firestore.googleapis.com --project=PROJECT"
        case PermissionDenied():
            what = "this service may not use the database"
            mends = (
                "gcloud projects add-iam-policy-binding PROJECT"
                " --member=serviceAccount:ACCOUNT --role=roles/datastore.user"
            )
        case NotFound():
            what = "the database is not there"
            mends = (
                "gcloud firestore databases create --database=DATABASE"
                " --location=REGION --project=PROJECT"
            )
        case _:
            what = "the database is not in native mode"
            mends = (
                "gcloud firestore databases update --database=DATABASE"
                " --type=firestore-native --project=PROJECT"
            )
    return SetUpError(f"job store: {error}", what=what, mends=mends)


def without_index(field: str, error: FailedPrecondition) -> SetUpError:
    kind = INDEXED[field].lower()
    index = f"array-config={kind}" if kind == "contains" else f"order={kind}"
    return SetUpError(
        f"job store: {error}",
        what=f"an index of {field} is missing",
        mends=f"gcloud firestore indexes fields update {field} --index={index}"
        " --collection-group=PREFIX-jobs --database=DATABASE --project=PROJECT",
    )
