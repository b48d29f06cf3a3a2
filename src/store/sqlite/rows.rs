//! From rows to records: what cannot be what was written is reported with its row, and never taken for something else.

use std::str::FromStr;
use std::time::Duration;

use rusqlite::Row;
use rusqlite::types::FromSql;

use crate::model::connection::{Account, Connection, ReconnectReason, State};
use crate::model::id::{Epoch, Generation, Version};
use crate::model::scope::ScopeSet;
use crate::model::session::{ConnectFailure, ConnectSession, Progress};
use crate::model::subject::Subject;
use crate::model::time::Timestamp;
use crate::seal::Sealed;
use crate::store::StoreError;
use crate::store::records::{DeviceAnswer, DeviceOpening, Ends, Extent, Grant, Lease, NewGrant, Opening, PendingGrant};

type Read<T> = Result<T, StoreError>;

pub(super) fn connection(row: &Row<'_>) -> Read<Connection> {
    Ok(Connection {
        id: text(row, "id")?,
        subject: subject(row)?,
        provider: text(row, "provider")?,
        account: Account { id: value(row, "account_id")?, name: value(row, "account_name")? },
        label: optional_text(row, "label")?,
        is_default: value(row, "is_default")?,
        state: state(row)?,
        epoch: Epoch(count(row, "epoch")?),
        grant_type: text(row, "grant_type")?,
        scopes: scopes(row, "scopes")?,
        created_at: time(row, "created_at")?,
        confirmed_at: time(row, "confirmed_at")?,
        given_at: time(row, "given_at")?,
        used_at: optional_time(row, "used_at")?,
    })
}

/// What a revocation that is not finished is to take.
pub(super) fn extent(row: &Row<'_>) -> Read<Extent> {
    match value(row, "revoking")? {
        1 => Ok(Extent::Alone),
        2 => Ok(Extent::Wider),
        _ => Err(damaged(row, "revoking")),
    }
}

pub(super) fn grant(row: &Row<'_>) -> Read<Grant> {
    Ok(Grant {
        slot: text(row, "slot")?,
        version: Version { epoch: Epoch(count(row, "epoch")?), generation: Generation(count(row, "generation")?) },
        content: NewGrant {
            token_id: text(row, "token_id")?,
            access: Sealed::from_bytes(value(row, "access")?),
            refresh: optional_sealed(row, "refresh")?,
            scopes: scopes(row, "scopes")?,
            issued_at: time(row, "issued_at")?,
            expires_at: optional_time(row, "expires_at")?,
            refresh_expires_at: optional_time(row, "refresh_expires_at")?,
            renew_at: optional_time(row, "renew_at")?,
            ends: Ends { at: optional_time(row, "ends_at")?, unless_renewed: optional_time(row, "lapses_at")? },
        },
        lease: lease(row)?,
        failures: value(row, "failures")?,
        last_failure: value(row, "last_failure")?,
        failure_number: value(row, "failure_number")?,
        uncertain: value(row, "uncertain")?,
        rejections: value(row, "rejections")?,
    })
}

pub(super) fn session(row: &Row<'_>) -> Read<ConnectSession> {
    Ok(ConnectSession {
        id: text(row, "id")?,
        subject: subject(row)?,
        caller: text(row, "caller")?,
        purpose: value(row, "purpose")?,
        provider: text(row, "provider")?,
        scopes: scopes(row, "scopes")?,
        reconnect: optional_text(row, "reconnect")?,
        grant_type: text(row, "grant_type")?,
        user_code: value(row, "user_code")?,
        progress: progress(row)?,
        created_at: time(row, "created_at")?,
        expires_at: time(row, "expires_at")?,
    })
}

pub(super) fn opening(row: &Row<'_>) -> Read<Opening> {
    Ok(Opening {
        state: value(row, "state")?,
        browser: value(row, "browser")?,
        verifier: optional_sealed(row, "verifier")?,
        nonce: value(row, "nonce")?,
        redirect_uri: value(row, "redirect_uri")?,
        token_endpoint: value(row, "token_endpoint")?,
    })
}

pub(super) fn device_opening(row: &Row<'_>) -> Read<DeviceOpening> {
    Ok(DeviceOpening {
        code: Sealed::from_bytes(value(row, "code")?),
        browser: value(row, "browser")?,
        token_endpoint: value(row, "token_endpoint")?,
        interval: Duration::from_millis(count(row, "interval")?),
        expires_at: time(row, "expires_at")?,
        answer: device_answer(row)?,
    })
}

fn device_answer(row: &Row<'_>) -> Read<Option<DeviceAnswer>> {
    match (optional_sealed(row, "answer")?, optional_time(row, "answer_sent_at")?) {
        (Some(body), Some(sent_at)) => Ok(Some(DeviceAnswer { body, sent_at })),
        (None, None) => Ok(None),
        _ => Err(damaged(row, "answer_sent_at")),
    }
}

pub(super) fn pending_grant(row: &Row<'_>) -> Read<PendingGrant> {
    Ok(PendingGrant {
        slot: text(row, "slot")?,
        access: Sealed::from_bytes(value(row, "access")?),
        refresh: optional_sealed(row, "refresh")?,
        scopes: scopes(row, "scopes")?,
        issued_at: time(row, "issued_at")?,
        expires_at: optional_time(row, "expires_at")?,
        refresh_expires_at: optional_time(row, "refresh_expires_at")?,
    })
}

/// A value as SQLite has it.
pub(super) fn value<T: FromSql>(row: &Row<'_>, column: &str) -> Read<T> {
    row.get(column).map_err(|_| damaged(row, column))
}

/// A text that has to parse.
pub(super) fn text<T: FromStr>(row: &Row<'_>, column: &str) -> Read<T> {
    value::<String>(row, column)?.parse().map_err(|_| damaged(row, column))
}

/// Scopes as [`ScopeSet`] writes them.
pub(super) fn scopes(row: &Row<'_>, column: &str) -> Read<ScopeSet> {
    value::<String>(row, column)?
        .split_terminator(' ')
        .map(|scope| scope.parse().map_err(|_| damaged(row, column)))
        .collect()
}

fn optional_text<T: FromStr>(row: &Row<'_>, column: &str) -> Read<Option<T>> {
    value::<Option<String>>(row, column)?.map(|text| text.parse().map_err(|_| damaged(row, column))).transpose()
}

fn optional_sealed(row: &Row<'_>, column: &str) -> Read<Option<Sealed>> {
    Ok(value::<Option<Vec<u8>>>(row, column)?.map(Sealed::from_bytes))
}

pub(super) fn count(row: &Row<'_>, column: &str) -> Read<u64> {
    u64::try_from(value::<i64>(row, column)?).map_err(|_| damaged(row, column))
}

pub(super) fn time(row: &Row<'_>, column: &str) -> Read<Timestamp> {
    value(row, column).map(Timestamp::from_millis)
}

pub(super) fn optional_time(row: &Row<'_>, column: &str) -> Read<Option<Timestamp>> {
    Ok(value::<Option<i64>>(row, column)?.map(Timestamp::from_millis))
}

fn subject(row: &Row<'_>) -> Read<Subject> {
    Ok(Subject { tenant: text(row, "tenant")?, user: text(row, "user")? })
}

fn lease(row: &Row<'_>) -> Read<Option<Lease>> {
    match (optional_text(row, "lease_boot")?, optional_time(row, "lease_until")?) {
        (Some(boot), Some(until)) => Ok(Some(Lease { boot, until })),
        (None, None) => Ok(None),
        _ => Err(damaged(row, "lease_until")),
    }
}

fn state(row: &Row<'_>) -> Read<State> {
    let word: String = value(row, "state")?;
    [State::Active, State::RefreshFailed, State::Revoked]
        .into_iter()
        .chain(reason(row)?.map(State::NeedsReconnect))
        .find(|state| state.as_str() == word)
        .ok_or_else(|| damaged(row, "state"))
}

fn reason(row: &Row<'_>) -> Read<Option<ReconnectReason>> {
    value::<Option<String>>(row, "reason")?
        .map(|word| {
            let known = ReconnectReason::ALL.into_iter().find(|reason| reason.as_str() == word);
            known.ok_or_else(|| damaged(row, "reason"))
        })
        .transpose()
}

fn progress(row: &Row<'_>) -> Read<Progress> {
    let account =
        || -> Read<Account> { Ok(Account { id: value(row, "account_id")?, name: value(row, "account_name")? }) };
    let word: String = value(row, "progress")?;
    match word.as_str() {
        "pending" => Ok(Progress::Pending),
        "opened" => Ok(Progress::Opened),
        "awaiting_confirmation" => {
            Ok(Progress::AwaitingConfirmation { account: account()?, granted: scopes(row, "granted")? })
        }
        "completed" => Ok(Progress::Completed { connection: text(row, "connection")?, account: account()? }),
        word => ConnectFailure::ALL
            .into_iter()
            .find(|failure| failure.as_str() == word)
            .map(Progress::Failed)
            .ok_or_else(|| damaged(row, "progress")),
    }
}

/// Names the row by whatever names it. What stands in the column is not repeated.
fn damaged(row: &Row<'_>, column: &str) -> StoreError {
    let name =
        ["id", "connection", "session"].iter().find_map(|key| row.get::<_, String>(*key).ok()).unwrap_or_default();
    StoreError::Damaged(format!("`{column}` of {name:?} makes no sense"))
}
