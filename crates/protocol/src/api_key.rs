//! The table of API keys.

/// Where an API is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listeners {
    pub broker: bool,
    pub controller: bool,
}

/// One row of the table.
pub(crate) struct Row {
    pub(crate) code: i16,
    pub(crate) name: &'static str,
    pub(crate) min: i16,
    pub(crate) max_unstable: i16,
    pub(crate) max: i16,
    pub(crate) request_flexible_from: i16,
    pub(crate) response_flexible_from: i16,
    pub(crate) listeners: Listeners,
}

macro_rules! api_keys {
    ($($code:literal $variant:ident $name:literal $min:literal $max_unstable:literal $max:literal $request:literal $response:literal $broker:literal $controller:literal,)*) => {
        /// The APIs of Kafka 4.4. Keys 4 to 7 are of the past and absent: for us they are unknown keys.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum ApiKey { $($variant = $code,)* }

        impl ApiKey {
            /// Every API, ascending by code.
            pub const ALL: &[ApiKey] = &[$(ApiKey::$variant,)*];

            /// `None` for a key that Kafka 4.4 does not have.
            pub fn from_code(code: i16) -> Option<ApiKey> {
                match code {
                    $($code => Some(ApiKey::$variant),)*
                    _ => None,
                }
            }

            fn row(self) -> &'static crate::api_key::Row {
                match self {
                    $(ApiKey::$variant => &crate::api_key::Row {
                        code: $code,
                        name: $name,
                        min: $min,
                        max_unstable: $max_unstable,
                        max: $max,
                        request_flexible_from: $request,
                        response_flexible_from: $response,
                        listeners: crate::api_key::Listeners { broker: $broker, controller: $controller },
                    },)*
                }
            }
        }
    };
}
pub(crate) use api_keys;

use crate::ApiKey;

impl ApiKey {
    /// The number on the wire.
    pub fn code(self) -> i16 {
        self.row().code
    }

    /// Kafka's name in mixed case, for example `FindCoordinator`.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// Lowest version that is decoded. (Produce is advertised from 0, and 0–2 refused.)
    pub fn min_version(self) -> i16 {
        self.row().min
    }

    /// Highest version that is advertised by default.
    pub fn max_version(self) -> i16 {
        self.row().max
    }

    /// Highest version with those that Kafka 4.4 calls unstable (`unstable.api.versions.enable`).
    pub fn max_version_unstable(self) -> i16 {
        self.row().max_unstable
    }

    pub fn listeners(self) -> Listeners {
        self.row().listeners
    }

    /// Whether a request of this version can be decoded by default.
    pub fn has_version(self, version: i16) -> bool {
        (self.min_version()..=self.max_version()).contains(&version)
    }

    /// Version of the `RequestHeader` before a request of this version, known or not.
    pub fn request_header_version(self, version: i16) -> i16 {
        if version >= self.row().request_flexible_from {
            2
        } else {
            1
        }
    }

    /// Version of the `ResponseHeader`. Always 0 for ApiVersions, since the peer cannot know what we speak.
    pub fn response_header_version(self, version: i16) -> i16 {
        i16::from(self != ApiKey::ApiVersions && version >= self.row().response_flexible_from)
    }
}

impl std::fmt::Display for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}
