"""What a person can do about a failure that Google reports in few words."""

from model_copier.errors import Code
from model_copier.job import CopyRequest


def hint(code: Code, request: CopyRequest) -> str:
    """Name the thing to mend, for the causes that are known; else nothing."""
    source, target = request.source, request.target_project
    match code:
        case Code.NOT_FOUND:
            return (
                f"check that the model exists: gcloud ai models describe {source.model}"
                f" --project={source.project} --region={source.location}"
            )
        case Code.PERMISSION_DENIED | Code.UNAUTHENTICATED:
            return (
                f"grant roles/aiplatform.serviceAgent on project {source.project} to the Vertex AI"
                f" service agent of {target}"
                f" (service-NUMBER@gcp-sa-aiplatform.iam.gserviceaccount.com, with the number of"
                f" {target}), and roles/aiplatform.user on both projects to the copier's account"
            )
        case Code.ALREADY_EXISTS:
            return (
                "choose another destination_model_id, or say if_exists: skip or new_version;"
                f" gcloud ai models list --project={target} --region={request.target_location}"
                " shows what is there"
            )
        case Code.RESOURCE_EXHAUSTED:
            return (
                f"the quota of {target} in {request.target_location} is used up;"
                " replay the dead letter later, or ask for more quota"
            )
        case Code.FAILED_PRECONDITION:
            return (
                "BigQuery ML and AutoML Natural Language models cannot be copied, nor custom models"
                " with a third-party container across projects"
            )
        case _:
            return ""
