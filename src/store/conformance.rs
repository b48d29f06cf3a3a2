//! One suite for every backend: what the broker relies on, one sentence each.

mod accounts;
mod audit;
mod connections;
mod devices;
pub(super) mod fixtures;
mod refreshing;
mod replanning;
mod sessions;
mod upkeep;

use std::sync::Arc;

use crate::store::Store;
use crate::store::memory::MemoryStore;
use crate::store::sqlite::SqliteStore;

macro_rules! conformance {
    ($($group:ident::$sentence:ident,)*) => {
        mod in_memory {
            use super::*;
            $(#[tokio::test]
            async fn $sentence() {
                super::$group::$sentence(Arc::new(MemoryStore::new())).await;
            })*
        }

        mod in_sqlite {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $sentence() {
                let directory = tempfile::tempdir().unwrap();
                let store = SqliteStore::open(&directory.path().join("grantd.db")).unwrap();
                super::$group::$sentence(Arc::new(store)).await;
            })*
        }
    };
}

conformance! {
    sessions::a_session_is_kept_as_it_was_made,
    sessions::of_fifty_who_take_an_opening_one_gets_it,
    sessions::a_second_opening_replaces_the_first,
    sessions::an_ended_or_expired_session_does_not_open,
    sessions::the_same_request_finds_the_same_session,
    sessions::only_open_sessions_of_the_subject_count,
    sessions::an_opened_session_awaits_confirmation_once,
    sessions::a_failed_session_gives_back_what_it_held_once,
    sessions::what_a_session_cannot_hold_is_kept_until_it_is_given_back,
    sessions::every_failure_is_kept_as_it_is,
    sessions::overdue_sessions_are_found_and_ended_ones_pruned,
    sessions::an_opening_can_be_looked_at_without_being_taken,
    devices::a_device_flow_is_kept_as_it_was_made_until_the_session_moves_on,
    devices::a_device_flow_is_nobody_elses_session_and_opens_no_other_way,
    devices::what_a_code_brought_is_kept_until_the_session_moves_on_or_ends,
    devices::an_ended_session_forgets_its_device_code,
    devices::a_grant_stays_of_the_type_of_its_consent,
    devices::what_nobody_confirmed_keeps_the_type_of_its_session,
    connections::a_store_belongs_to_whoever_installs_first,
    connections::a_confirmation_makes_a_connection_and_ends_the_session,
    connections::only_a_waiting_session_can_be_confirmed,
    connections::a_confirmation_of_something_older_is_stale_and_changes_nothing,
    connections::a_reconnect_replaces_the_grants_and_keeps_the_name,
    connections::one_subject_has_one_connection_for_an_account_until_it_is_revoked,
    connections::connections_are_listed_by_age_and_only_the_subjects_own,
    connections::pages_cover_everything_once,
    connections::revoking_happens_once_and_ends_everything,
    connections::a_revocation_is_unfinished_until_the_grants_are_forgotten,
    connections::a_closed_store_says_so,
    connections::a_probe_succeeds_again_and_again,
    connections::a_store_that_nothing_is_wrong_with_is_not_held,
    replanning::a_setback_is_noted_until_it_is_made_good,
    connections::a_challenge_is_kept_until_the_connection_serves_again,
    accounts::a_label_belongs_to_one_account_and_can_be_given_away_again,
    accounts::a_label_that_another_account_answers_to_is_taken,
    accounts::one_account_is_the_default_at_most,
    accounts::what_an_account_is_called_survives_a_reconnect_and_goes_with_a_revocation,
    accounts::what_was_to_be_revoked_is_kept_until_every_grant_is_forgotten,
    accounts::the_last_refresh_of_a_revoked_grant_is_made_by_one,
    refreshing::of_many_who_arm_one_may_send,
    refreshing::a_lease_ends_with_its_time_and_leaves_a_recovery,
    refreshing::the_lease_of_a_dead_run_is_taken_over,
    refreshing::arming_what_has_moved_or_gone_says_so,
    refreshing::a_replacement_counts_up_and_ends_the_lease,
    refreshing::a_stale_generation_changes_nothing,
    refreshing::of_many_replacements_of_one_version_one_counts,
    refreshing::what_comes_back_after_a_reconnect_or_a_revocation_belongs_to_nobody,
    refreshing::a_late_success_revives_a_connection,
    refreshing::a_failure_is_counted_and_ends_the_lease,
    refreshing::a_number_is_that_of_the_last_failure,
    refreshing::every_state_is_kept_as_it_is,
    refreshing::what_is_due_comes_in_order_and_in_portions,
    refreshing::each_provider_has_its_own_queue,
    refreshing::doubts_about_a_refresh_token_are_kept_until_it_is_replaced,
    refreshing::what_is_leased_is_due_when_the_lease_is_over,
    refreshing::what_does_not_serve_is_never_due,
    refreshing::each_slot_has_its_own_version_and_lease,
    refreshing::an_abandoned_write_is_done,
    refreshing::what_was_put_off_by_a_hold_is_due_when_it_is_released,
    refreshing::what_waits_after_one_kind_of_failure_can_be_tried_now,
    replanning::what_fits_the_clock_is_left_alone,
    replanning::what_was_issued_in_the_future_is_dead_and_due_soon,
    replanning::what_was_put_off_by_another_clock_comes_soon,
    replanning::a_lease_of_another_clock_ends,
    replanning::what_is_not_scheduled_stays_so,
    replanning::many_are_spread_out_and_none_is_left,
    upkeep::the_last_use_is_noted_and_never_moves_back,
    upkeep::a_renewal_is_put_off_unless_something_has_moved_or_is_under_way,
    upkeep::what_ends_comes_in_order_and_page_by_page,
    upkeep::what_can_be_renewed_ends_only_while_that_fails_or_comes_too_late,
    upkeep::what_needs_a_person_is_counted_once,
    audit::entries_are_kept_in_order_to_the_byte,
    audit::an_addition_behind_another_end_changes_nothing,
    audit::old_entries_go_up_to_the_new_beginning,
    upkeep::a_warning_is_remembered_until_the_person_consents_again,
}

type Any = Arc<dyn Store>;
