//! What replicas of a world say to each other, in words.

use milena_protocol::{ApiVersionsResponse, api_versions_response};
use milena_raft::RaftRequest;

/// What a replica of this release says of itself.
pub fn supports_reconfiguration() -> ApiVersionsResponse {
    ApiVersionsResponse {
        supported_features: vec![api_versions_response::SupportedFeatureKey {
            name: "kraft.version".into(),
            min_version: 0,
            max_version: 1,
        }],
        ..ApiVersionsResponse::default()
    }
}

/// A request as a transcript shows it.
pub fn request_text(request: &RaftRequest) -> String {
    match request {
        RaftRequest::Vote(request) => {
            let vote = &request.topics[0].partitions[0];
            let kind = if vote.pre_vote { "pre-vote" } else { "vote" };
            format!(
                "{kind} epoch={} end={} last-epoch={}",
                vote.replica_epoch, vote.last_offset, vote.last_offset_epoch
            )
        }
        RaftRequest::BeginQuorumEpoch(request) => {
            format!(
                "begin epoch={}",
                request.topics[0].partitions[0].leader_epoch
            )
        }
        RaftRequest::EndQuorumEpoch(request) => {
            let end = &request.topics[0].partitions[0];
            format!(
                "end epoch={} successors={:?}",
                end.leader_epoch, end.preferred_successors
            )
        }
        RaftRequest::Fetch(request) => {
            let fetch = &request.topics[0].partitions[0];
            format!(
                "fetch epoch={} from={}",
                fetch.current_leader_epoch, fetch.fetch_offset
            )
        }
        RaftRequest::FetchSnapshot(request) => {
            let fetch = &request.topics[0].partitions[0];
            format!(
                "fetch-snapshot {} from={}",
                fetch.snapshot_id.end_offset, fetch.position
            )
        }
        RaftRequest::DescribeQuorum(_) => "describe".to_string(),
        RaftRequest::AddRaftVoter(request) => format!("add-voter {}", request.voter_id),
        RaftRequest::RemoveRaftVoter(request) => format!("remove-voter {}", request.voter_id),
        RaftRequest::UpdateRaftVoter(request) => format!("update-voter {}", request.voter_id),
        RaftRequest::ApiVersions(_) => "api-versions".to_string(),
    }
}
