-- Personal data: what is, who sees it, and who asked to be forgotten. What the classes mean: warehouse/PRIVACY.md.
--
-- Snowflake masks by tag: every column tagged personal_data is clear text for the roles that move data and a salted hash
-- for all others, administrators too. Needs Snowflake's Enterprise Edition. Where policies are remembered only (the
-- local warehouse), people read the views of ANALYSTS, which mask whoever asks.

create schema if not exists governance comment = 'Classification, masking policies and their salts';
create schema if not exists analysts comment = 'MARTS for people: what is personal is a hash';

-- Salts are made by the warehouse that uses them, so that none stands in a repository. Whoever has one can test guesses,
-- so only the loader may read them.
create table if not exists governance.salts (
    purpose varchar not null comment 'masking or forgetting',
    salt varchar not null comment 'Random text, 256 bits as hexadecimal digits',
    created_at timestamp_ntz not null comment 'UTC',
    constraint salts_pk primary key (purpose)
)
comment = 'Grain: one row per purpose; never change one, or the same value gets another hash';

merge into governance.salts as target
using (
    select
        'masking' as purpose,
        sha2(uuid_string() || uuid_string(), 256) as salt
    union all
    select
        'forgetting' as purpose,
        sha2(uuid_string() || uuid_string(), 256) as salt
) as fresh
    on target.purpose = fresh.purpose
when not matched then insert (purpose, salt, created_at) values (fresh.purpose, fresh.salt, sysdate());

-- noqa: disable=LT01,LT02,LT14
create tag if not exists governance.personal_data
    allowed_values 'email', 'name', 'address', 'record'
    comment = 'Finds or names a person: masked. record: bytes or text that may hold any of it';
create tag if not exists governance.pseudonymous_identifier
    allowed_values 'customer', 'visitor', 'session'
    comment = 'Stands for a person without naming one: not masked, and replaced when the person is forgotten';

create masking policy if not exists governance.mask_personal_text as (value varchar) returns varchar ->
    case
        when
            is_role_in_session('CUSTOMER_ANALYTICS_LOADER') or is_role_in_session('CUSTOMER_ANALYTICS_TRANSFORMER')
            then value
        else
            sha2(
                (select max(salts.salt) from governance.salts as salts where salts.purpose = 'masking')
                || '|' || lower(trim(value)),
                256
            )
    end
    comment = 'Clear text for the roles that move data; a salted hash for all others, equal where the text is';

create masking policy if not exists governance.mask_personal_bytes as (value binary) returns binary ->
    case
        when
            is_role_in_session('CUSTOMER_ANALYTICS_LOADER') or is_role_in_session('CUSTOMER_ANALYTICS_TRANSFORMER')
            then value
    end
    comment = 'Bytes for the roles that move data; NULL for all others';

create masking policy if not exists governance.mask_personal_variant as (value variant) returns variant ->
    case
        when
            is_role_in_session('CUSTOMER_ANALYTICS_LOADER') or is_role_in_session('CUSTOMER_ANALYTICS_TRANSFORMER')
            then value
    end
    comment = 'The whole value for the roles that move data; NULL for all others';
-- noqa: enable=LT01,LT02,LT14

-- Columns. The same classes stand beside the columns in dbt (meta); a test compares the two.
alter table raw.customers modify column email set tag governance.personal_data = 'email';
alter table raw.customers modify column full_name set tag governance.personal_data = 'name';
alter table raw.customers modify column address set tag governance.personal_data = 'address';
alter table raw.customers modify column postal_code set tag governance.personal_data = 'address';
alter table raw.customers modify column customer_id set tag governance.pseudonymous_identifier = 'customer';
alter table raw.customer_merges modify column customer_id set tag governance.pseudonymous_identifier = 'customer';
alter table raw.customer_merges modify column merged_into_customer_id
set tag governance.pseudonymous_identifier = 'customer';
alter table raw.order_lines modify column customer_id set tag governance.pseudonymous_identifier = 'customer';
alter table raw.click_events modify column payload set tag governance.personal_data = 'record';

alter table marts.dim_customers modify column email set tag governance.personal_data = 'email';
alter table marts.dim_customers modify column full_name set tag governance.personal_data = 'name';
alter table marts.dim_customers modify column address set tag governance.personal_data = 'address';
alter table marts.dim_customers modify column postal_code set tag governance.personal_data = 'address';
alter table marts.dim_customers modify column customer_id set tag governance.pseudonymous_identifier = 'customer';
alter table marts.dim_customers modify column person_id set tag governance.pseudonymous_identifier = 'customer';
alter table marts.customer_segments modify column customer_id set tag governance.pseudonymous_identifier = 'customer';
alter table marts.customer_lifetime modify column customer_id set tag governance.pseudonymous_identifier = 'customer';
alter table marts.fact_clicks modify column visitor_id set tag governance.pseudonymous_identifier = 'visitor';
alter table marts.fact_clicks modify column session_id set tag governance.pseudonymous_identifier = 'session';
alter table marts.fact_sessions modify column visitor_id set tag governance.pseudonymous_identifier = 'visitor';
alter table marts.fact_sessions modify column session_id set tag governance.pseudonymous_identifier = 'session';

alter table ops.quarantine modify column raw_bytes set tag governance.personal_data = 'record';
alter table ops.dead_letters modify column record_key set tag governance.personal_data = 'record';
alter table ops.dead_letters modify column record_value set tag governance.personal_data = 'record';
alter table ops.dead_letters modify column record_headers set tag governance.personal_data = 'record';
alter table ops.replays modify column fixed_value set tag governance.personal_data = 'record';
alter table quality.anomalies modify column customer_id set tag governance.pseudonymous_identifier = 'customer';

-- Who asked to be forgotten. What arrives of them later is erased before it is staged, by this list.
create table if not exists ops.forgotten_customers (
    source_system varchar not null comment 'Name of the source mapping',
    kind varchar not null comment 'What was forgotten: customer, visitor or session (an id of that kind)',
    identifier_hash varchar(64) not null comment 'SHA-256 of salt, source, kind and the id, which is kept nowhere',
    pseudonym varchar not null comment 'Stands in its place: random, not made from it',
    request_id varchar not null comment 'Ids forgotten together have one',
    reason varchar comment 'As given by --reason',
    requested_by varchar not null comment 'User and machine',
    requested_at timestamp_ntz not null comment 'UTC',
    finished_at timestamp_ntz comment 'When it was gone everywhere, UTC; NULL: the command died, run it again',
    constraint forgotten_customers_pk primary key (source_system, kind, identifier_hash)
)
comment = 'Grain: one row per forgotten id; a person has one of kind customer and those of their devices';

-- A text that is masked already, by the policy, stays as it is: so the views show the same on both targets.
create or replace view analysts.dim_customers (
    customer_key comment 'Surrogate key of this version of the customer, as in the facts',
    source_system comment 'Source the customer is from; NULL for the unknown member',
    customer_id comment 'Customer number; NULL for the unknown member, which stands for guests',
    email_hash comment 'Salted hash of the e-mail address: equal where the address is',
    full_name_hash comment 'Salted hash of the name',
    address_hash comment 'Salted hash of street and house number',
    postal_code_hash comment 'Salted hash of the postal code',
    city comment 'City',
    country comment 'Country',
    signed_up_at comment 'UTC',
    has_marketing_consent comment 'Whether the customer may be written to',
    is_inferred comment 'Known from orders, clicks or merges only; master data has not arrived',
    person_id comment 'Customer number under which the person is known now, after merges',
    valid_from comment 'UTC, inclusive',
    valid_to comment 'UTC, exclusive; NULL for the current version',
    is_current comment 'Latest version of the customer'
)
comment = 'MARTS.DIM_CUSTOMERS for people. Grain: one row per version of a customer, and one unknown member'
as
with salts as (
    select salt
    from governance.salts
    where purpose = 'masking'
)

select
    customers.customer_key,
    customers.source_system,
    customers.customer_id,
    iff(
        regexp_like(customers.email, '^[0-9a-f]{64}$'),
        customers.email,
        sha2(salts.salt || '|' || lower(trim(customers.email)), 256)
    ) as email_hash,
    iff(
        regexp_like(customers.full_name, '^[0-9a-f]{64}$'),
        customers.full_name,
        sha2(salts.salt || '|' || lower(trim(customers.full_name)), 256)
    ) as full_name_hash,
    iff(
        regexp_like(customers.address, '^[0-9a-f]{64}$'),
        customers.address,
        sha2(salts.salt || '|' || lower(trim(customers.address)), 256)
    ) as address_hash,
    iff(
        regexp_like(customers.postal_code, '^[0-9a-f]{64}$'),
        customers.postal_code,
        sha2(salts.salt || '|' || lower(trim(customers.postal_code)), 256)
    ) as postal_code_hash,
    customers.city,
    customers.country,
    customers.signed_up_at,
    customers.has_marketing_consent,
    customers.is_inferred,
    customers.person_id,
    customers.valid_from,
    customers.valid_to,
    customers.is_current
from marts.dim_customers as customers
cross join salts;

grant usage on schema governance to role customer_analytics_loader;
grant select on table governance.salts to role customer_analytics_loader;
grant select, insert, update, delete on table ops.forgotten_customers to role customer_analytics_loader;
grant usage on schema analysts to role customer_analytics_analyst;
grant select on all views in schema analysts to role customer_analytics_analyst;
grant select on future views in schema analysts to role customer_analytics_analyst;
grant usage on schema analysts to role customer_analytics_pipeline;
grant select on all views in schema analysts to role customer_analytics_pipeline;

-- Last, once every column has its tag: a column is never masked by half. (sqlfluff does not know schemas and FORCE here.)
alter tag governance.personal_data
set masking policy governance.mask_personal_text, -- noqa: PRS
masking policy governance.mask_personal_bytes,
masking policy governance.mask_personal_variant
force;
