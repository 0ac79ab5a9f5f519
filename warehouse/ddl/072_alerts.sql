-- Alerts: the spool between what people should know and the channels that tell them. An alert is written here first, in
-- the transaction that marks its incidents as told, then sent, then marked as delivered: a channel that is dead, or a
-- process that dies, loses none. One that died between sending and marking sends it again, under the same alert_id.

create table if not exists quality.alerts (
    alert_id varchar(32) not null comment 'Stands in the message, so that one that came twice is seen to be the same',
    channel varchar(16) not null comment 'Hash of the Apprise URL; log: no URL was set',
    title varchar not null comment 'First line',
    body varchar not null comment 'The rest, as people read it',
    kind varchar not null comment 'failure, warning or success: what the message says in all',
    incident_ids variant comment 'Incidents it tells of',
    failed_checks number(38, 0) not null comment 'Reconciliations and tests it says have failed',
    run_id varchar not null comment 'Run that wrote it',
    created_at timestamp_ntz not null comment 'UTC',
    attempts number(38, 0) not null comment 'How often its channel was tried',
    next_attempt_at timestamp_ntz not null comment 'Not tried again before, UTC',
    delivered_at timestamp_ntz comment 'When the channel took it, UTC; alerts sent as one message have the same',
    last_error varchar comment 'Why the channel did not take it, or what it waits for',
    claimed_by varchar comment 'Sender at work on it',
    claimed_until timestamp_ntz comment 'When a sender that has not come back is taken for dead, UTC',
    constraint alerts_pk primary key (alert_id, channel)
)
comment = 'Grain: one row per alert and channel';

create table if not exists quality.told_incidents (
    incident_id varchar(32) not null comment 'As in QUALITY.INCIDENTS',
    severity varchar not null comment 'As people were told last',
    state varchar not null comment 'As people were told last',
    told_at timestamp_ntz not null comment 'UTC',
    constraint told_incidents_pk primary key (incident_id)
)
comment = 'Grain: one row per incident that people were told of; what they know of it';
