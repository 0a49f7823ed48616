//! DescribeUserScramCredentials (KIP-554). Answered from the image: mechanisms and iterations, never a secret.

use std::collections::BTreeMap;

use milena_base::{ErrorCode, ScramMechanism};
use milena_image::Image;
use milena_protocol::describe_user_scram_credentials_response::{
    CredentialInfo, DescribeUserScramCredentialsResult,
};
use milena_protocol::{
    DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse, Str,
};

use crate::broker::Broker;
use crate::ctx::{Ctx, Outbox, Reply};

pub(super) fn handle(
    broker: &Broker,
    ctx: &Ctx,
    request: DescribeUserScramCredentialsRequest,
    _out: &mut Outbox,
) -> Reply {
    let image = broker.image();
    // Each user, and whether it was named more than once.
    let mut users: BTreeMap<Str, bool> = BTreeMap::new();
    for user in request.users.into_iter().flatten() {
        users.entry(user.name).and_modify(|twice| *twice = true).or_insert(false);
    }
    if users.is_empty() {
        let all = image.security.scram.keys();
        users = all.map(|(_, user)| (user.clone(), false)).collect();
    }
    let results = users.into_iter().map(|(user, twice)| describe(&image, user, twice));
    ctx.now_frame(&DescribeUserScramCredentialsResponse {
        results: results.collect(),
        ..DescribeUserScramCredentialsResponse::default()
    })
}

fn describe(image: &Image, user: Str, twice: bool) -> DescribeUserScramCredentialsResult {
    let info = |mechanism: ScramMechanism| {
        let credential = image.security.scram.get(&(mechanism.id(), user.clone()))?;
        Some(CredentialInfo {
            mechanism: mechanism.id(),
            iterations: credential.iterations,
        })
    };
    let infos: Vec<CredentialInfo> = ScramMechanism::ALL.into_iter().filter_map(info).collect();
    let (code, why) = match (twice, infos.is_empty()) {
        (true, _) => (
            ErrorCode::DuplicateResource,
            Some("Cannot describe SCRAM credentials for the same user twice in a single request: "),
        ),
        (false, true) => (
            ErrorCode::ResourceNotFound,
            Some("Attempt to describe a user credential that does not exist: "),
        ),
        (false, false) => (ErrorCode::None, None),
    };
    DescribeUserScramCredentialsResult {
        error_code: code.code(),
        error_message: why.map(|why| Str::from(format!("{why}{user}"))),
        credential_infos: if why.is_none() { infos } else { Vec::new() },
        user,
    }
}
