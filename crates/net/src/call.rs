//! The client's side: a request as bytes, a response out of a frame.

use bytes::Bytes;
use milena_protocol::{
    ApiKey, DecodeError, EncodeError, Message, Reader, Request, RequestHeader, ResponseHeader, Str,
    Writer,
};

/// Encodes a request with its length prefix.
pub fn encode<R: Request>(
    request: &R,
    version: i16,
    correlation_id: i32,
    client_id: Option<Str>,
) -> Result<Bytes, EncodeError> {
    let header = RequestHeader {
        request_api_key: R::API_KEY.code(),
        request_api_version: version,
        correlation_id,
        client_id,
    };
    encode_with(header, |w| request.encode(w, version))
}

/// As [`encode`], for a body that knows how to write itself.
///
/// # Panics
/// Where the header's key is none of [`ApiKey`].
pub fn encode_with(
    header: RequestHeader,
    body: impl FnOnce(&mut Writer) -> Result<(), EncodeError>,
) -> Result<Bytes, EncodeError> {
    let api = ApiKey::from_code(header.request_api_key).expect("a key that is known");
    let version = header.request_api_version;
    let mut writer = Writer::new();
    writer.i32(0);
    header.encode(&mut writer, api.request_header_version(version))?;
    body(&mut writer)?;
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

/// The body of a response frame (without its length prefix) to a request of `api` sent at `version`.
pub fn body(frame: Bytes, api: ApiKey, version: i16) -> Result<Bytes, DecodeError> {
    let mut reader = Reader::new(frame);
    ResponseHeader::decode(&mut reader, api.response_header_version(version))?;
    Ok(reader.rest())
}

/// The header of a request frame (without its length prefix), and its body; `None` for an API that is not known.
pub fn request(frame: Bytes) -> Result<Option<(ApiKey, RequestHeader, Bytes)>, DecodeError> {
    let mut reader = Reader::new(frame.clone());
    let (key, version) = (reader.i16()?, reader.i16()?);
    let Some(api) = ApiKey::from_code(key).filter(|api| api.has_version(version)) else {
        return Ok(None);
    };
    let mut reader = Reader::new(frame);
    let header = RequestHeader::decode(&mut reader, api.request_header_version(version))?;
    Ok(Some((api, header, reader.rest())))
}
