//! The client's side: a request as bytes, a response out of a frame.

use bytes::Bytes;
use milena_protocol::{
    DecodeError, EncodeError, Message, Reader, Request, RequestHeader, ResponseHeader, Str, Writer,
};

/// Encodes a request with its length prefix.
pub fn encode<R: Request>(
    request: &R,
    version: i16,
    correlation_id: i32,
    client_id: Option<Str>,
) -> Result<Bytes, EncodeError> {
    let mut writer = Writer::new();
    writer.i32(0);
    let header = RequestHeader {
        request_api_key: R::API_KEY.code(),
        request_api_version: version,
        correlation_id,
        client_id,
    };
    header.encode(&mut writer, R::API_KEY.request_header_version(version))?;
    request.encode(&mut writer, version)?;
    writer.patch_i32(0, (writer.wire_length() - 4) as i32);
    writer.into_bytes()
}

/// The correlation id of a response frame (without its length prefix), before its API is known.
pub fn correlation_id(frame: &[u8]) -> Option<i32> {
    Some(i32::from_be_bytes(*frame.first_chunk::<4>()?))
}

/// Decodes the response to a request of type `R` sent at `version`.
pub fn decode<R: Request>(frame: Bytes, version: i16) -> Result<R::Response, DecodeError> {
    let mut reader = Reader::new(frame);
    ResponseHeader::decode(&mut reader, R::API_KEY.response_header_version(version))?;
    R::Response::decode(&mut reader, version)
}
