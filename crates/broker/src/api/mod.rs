//! The index of the product: one row for each API that is served, one file for each handler.

use milena_base::Instant;
use milena_controller::{ControllerRequest, RequestContext};
use milena_group::GroupRequest;
use milena_net::Incoming;
use milena_protocol::{ApiKey, Message};
use milena_raft::RaftRequest;
use milena_txn::TxnRequest;

use crate::ask::{Ask, Behalf, Origin, Wanted};
use crate::broker::Broker;
use crate::ctx::{Ctx, Outbox, Reply};
use crate::groups::GroupsEvent;
use crate::transactions::TxnEvent;

/// Decodes the body; a body that does not have its form closes the connection, as in Kafka.
fn decode<M: Message>(incoming: Incoming) -> Result<M, Reply> {
    M::from_bytes(incoming.body, incoming.version)
        .map_err(|error| Reply::Close(format!("{} v{}: {error}", M::NAME, incoming.version)))
}

macro_rules! apis {
    (
        served { $($key:ident => $module:ident on $on:ident;)* }
        groups { $($group:ident;)* }
        transactions { $($transaction:ident;)* }
        quorum { $($raft:ident on $raft_on:ident;)* }
        forwarded { $($forwarded:ident on $forwarded_on:ident;)* }
    ) => {
        $(pub(crate) mod $module;)*

        /// Whether this server implements an API, and on which listeners.
        fn implemented(api: ApiKey) -> Option<On> {
            match api {
                $(ApiKey::$key => Some(On::$on),)*
                $(ApiKey::$group => Some(On::Brokers),)*
                $(ApiKey::$transaction => Some(On::Brokers),)*
                $(ApiKey::$raft => Some(On::$raft_on),)*
                $(ApiKey::$forwarded => Some(On::$forwarded_on),)*
                _ => None,
            }
        }

        pub(crate) fn dispatch(
            broker: &Broker,
            ctx: &Ctx,
            incoming: Incoming,
            out: &mut Outbox,
        ) -> Reply {
            match incoming.api {
                $(ApiKey::$key => match decode(incoming) {
                    Ok(request) => $module::handle(broker, ctx, request, out),
                    Err(reply) => reply,
                },)*
                $(ApiKey::$group => match decode(incoming) {
                    Ok(request) => to_groups(ctx, GroupRequest::$group(request), out),
                    Err(reply) => reply,
                },)*
                $(ApiKey::$transaction => match decode(incoming) {
                    Ok(request) => to_transactions(ctx, TxnRequest::$transaction(request), out),
                    Err(reply) => reply,
                },)*
                $(ApiKey::$raft => match decode(incoming) {
                    Ok(request) => to_quorum(broker, ctx, RaftRequest::$raft(request), out),
                    Err(reply) => reply,
                },)*
                $(ApiKey::$forwarded => match decode(incoming) {
                    Ok(request) => {
                        let request = ControllerRequest::$forwarded(request);
                        to_controller(broker, ctx, Origin::Client(ctx.to), request, out)
                    }
                    Err(reply) => reply,
                },)*
                api => Reply::Close(format!("{api:?} is not served")),
            }
        }
    };
}

/// Every API that is implemented, ascending by key.
pub(crate) fn all() -> impl Iterator<Item = ApiKey> {
    let every = (0..=i16::from(u8::MAX)).filter_map(ApiKey::from_code);
    every.filter(|api| implemented(*api).is_some())
}

/// The answer comes from the groups' mailbox.
fn to_groups(ctx: &Ctx, request: GroupRequest, out: &mut Outbox) -> Reply {
    out.post(GroupsEvent::Request(Box::new((ctx.clone(), request))));
    Reply::Parked
}

/// The answer comes from the transactions' mailbox.
fn to_transactions(ctx: &Ctx, request: TxnRequest, out: &mut Outbox) -> Reply {
    out.post(TxnEvent::Request {
        ctx: Box::new(ctx.clone()),
        request,
    });
    Reply::Parked
}

/// The answer comes from the active controller, when what it decided is committed.
fn to_controller(
    broker: &Broker,
    ctx: &Ctx,
    origin: Origin,
    request: ControllerRequest,
    out: &mut Outbox,
) -> Reply {
    let context = RequestContext {
        version: ctx.version(),
        principal: ctx.principal().to_owned(),
        client_id: ctx.client_id.as_deref().unwrap_or_default().to_owned(),
        forwarded: ctx.to.envelope.is_some() || comes_by_broker(broker, ctx),
    };
    let wanted = Wanted::Controller(Box::new(request), context);
    ask(broker, ctx, origin, wanted, out)
}

fn comes_by_broker(broker: &Broker, ctx: &Ctx) -> bool {
    broker.listener_kind(ctx.listener) == ListenerKind::Broker
}

/// Asks in a client's name. What came by a controller's listener is answered by this node, whatever it is.
fn ask(broker: &Broker, ctx: &Ctx, origin: Origin, wanted: Wanted, out: &mut Outbox) -> Reply {
    out.posts.push(broker.route(Box::new(Ask {
        origin,
        wanted,
        behalf: Some(Behalf {
            principal: ctx.principal().to_owned(),
            client_id: ctx.client_id.clone(),
            host: ctx.client_host,
        }),
        travels: comes_by_broker(broker, ctx),
        deadline: Instant::NEVER,
    })));
    Reply::Parked
}

/// The quorum's replica on this node answers.
fn to_quorum(broker: &Broker, ctx: &Ctx, request: RaftRequest, out: &mut Outbox) -> Reply {
    ask(
        broker,
        ctx,
        Origin::Client(ctx.to),
        Wanted::Quorum(request),
        out,
    )
}

/// On which listeners an implemented API is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum On {
    Brokers,
    Controllers,
    Both,
}

/// Which kind of listener a connection came in on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerKind {
    Broker,
    Controller,
}

/// Whether an API is served at a version on a kind of listener.
pub(crate) fn serves(kind: ListenerKind, api: ApiKey, version: i16) -> bool {
    let here = match (implemented(api), kind) {
        (None, _) => false,
        (Some(On::Both), _) => true,
        (Some(On::Brokers), kind) => kind == ListenerKind::Broker,
        (Some(On::Controllers), kind) => kind == ListenerKind::Controller,
    };
    here && api.has_version(version)
}

/// What is served on a kind of listener: each API with its lowest and highest version, ascending by key.
pub fn served_apis(kind: ListenerKind) -> Vec<(ApiKey, i16, i16)> {
    let here = all().filter(|api| serves(kind, *api, api.max_version()));
    here.map(|api| (api, api.min_version(), api.max_version()))
        .collect()
}

apis! {
    served {
        Produce => produce on Brokers;
        Fetch => fetch on Both;
        ListOffsets => list_offsets on Brokers;
        Metadata => metadata on Brokers;
        FindCoordinator => find_coordinator on Brokers;
        ApiVersions => api_versions on Both;
        DeleteRecords => delete_records on Brokers;
        InitProducerId => init_producer_id on Brokers;
        OffsetForLeaderEpoch => offset_for_leader_epoch on Brokers;
        WriteTxnMarkers => write_txn_markers on Brokers;
        TxnOffsetCommit => txn_offset_commit on Brokers;
        DescribeConfigs => describe_configs on Both;
        AlterConfigs => alter_configs on Both;
        IncrementalAlterConfigs => incremental_alter_configs on Both;
        DescribeLogDirs => describe_log_dirs on Brokers;
        DescribeQuorum => describe_quorum on Both;
        Envelope => envelope on Controllers;
        DescribeCluster => describe_cluster on Both;
        DescribeProducers => describe_producers on Brokers;
        DescribeClientQuotas => describe_client_quotas on Brokers;
        DescribeUserScramCredentials => describe_user_scram_credentials on Both;
        ListConfigResources => list_config_resources on Brokers;
        DescribeTopicPartitions => describe_topic_partitions on Brokers;
    }
    groups {
        OffsetCommit;
        OffsetFetch;
        JoinGroup;
        Heartbeat;
        LeaveGroup;
        SyncGroup;
        DescribeGroups;
        ListGroups;
        DeleteGroups;
        OffsetDelete;
        ConsumerGroupHeartbeat;
        ConsumerGroupDescribe;
    }
    transactions {
        AddPartitionsToTxn;
        AddOffsetsToTxn;
        EndTxn;
        DescribeTransactions;
        ListTransactions;
    }
    quorum {
        Vote on Controllers;
        BeginQuorumEpoch on Controllers;
        EndQuorumEpoch on Controllers;
        FetchSnapshot on Controllers;
        AddRaftVoter on Both;
        RemoveRaftVoter on Both;
        UpdateRaftVoter on Controllers;
    }
    forwarded {
        CreateTopics on Both;
        DeleteTopics on Both;
        CreatePartitions on Both;
        ElectLeaders on Both;
        AlterPartitionReassignments on Both;
        ListPartitionReassignments on Both;
        AlterPartition on Controllers;
        AlterClientQuotas on Both;
        AlterUserScramCredentials on Both;
        UpdateFeatures on Both;
        UnregisterBroker on Both;
        BrokerRegistration on Controllers;
        BrokerHeartbeat on Controllers;
        AllocateProducerIds on Controllers;
        ControllerRegistration on Controllers;
        AssignReplicasToDirs on Controllers;
        UnregisterController on Both;
    }
}
