-- Days of a source that are not like others, as its mapping announces them; public holidays are in OPS.HOLIDAYS.

create table if not exists ops.calendar_events (
    source_system varchar not null comment 'Name of the source mapping',
    event_date date not null comment 'Business date, in the shop''s timezone',
    event_name varchar not null comment 'What the shop calls it',
    event_kind varchar not null comment 'promotion, closed (no orders are expected) or holiday',
    constraint calendar_events_pk primary key (source_system, event_date, event_name)
)
comment = 'Grain: one row per source, business date and announced event';
