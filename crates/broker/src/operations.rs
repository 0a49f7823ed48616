//! Authorized operations as bit fields (`AclOperation` codes). Without an authorizer everything that a resource
//! knows is allowed.

const fn bits(codes: &[u32]) -> i32 {
    let (mut field, mut i) = (0, 0);
    while i < codes.len() {
        field |= 1 << codes[i];
        i += 1;
    }
    field
}

/// READ, WRITE, CREATE, DELETE, ALTER, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS.
pub const TOPIC: i32 = bits(&[3, 4, 5, 6, 7, 8, 10, 11]);
/// CREATE, ALTER, DESCRIBE, CLUSTER_ACTION, DESCRIBE_CONFIGS, ALTER_CONFIGS, IDEMPOTENT_WRITE.
pub const CLUSTER: i32 = bits(&[5, 7, 8, 9, 10, 11, 12]);
/// Not asked for.
pub const UNASKED: i32 = i32::MIN;
