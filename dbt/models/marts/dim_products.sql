{{
    config(
        materialized='replace_touched',
        meta={'keys': ['source_system', 'product_id'], 'touched': 'int_touched_products'},
    )
}}

with
{{ member_versions('stg_products', 'product_id', 'products', 'int_touched_products', [
    'product_name', 'category', 'subcategory', 'brand', 'list_price', 'list_price_currency', 'is_active',
]) }},

unknown as (
    select known.product_key
    from (select {{ unknown_key() }} as product_key) as known
    left join {{ this }} as present on known.product_key = present.product_key
    where present.product_key is null
),

conventions as (
    select
        source_system,
        non_product_pattern
    from {{ source('ops', 'source_conventions') }}
),

merchandise as (
    select
        touched.source_system,
        touched.product_id,
        not coalesce(regexp_like(touched.product_id, conventions.non_product_pattern, 'i'), false) as is_merchandise
    from touched
    left join conventions on touched.source_system = conventions.source_system
),

-- Products known from orders or clicks only, called what most of their lines call them; of equally frequent texts the
-- first in the alphabet. Clicks name no product. The same key is completed in place when their master data arrives.
without_versions as (
    select
        touched.source_system,
        touched.product_id
    from touched
    left join versions
        on
            touched.source_system = versions.source_system
            and touched.product_id = versions.product_id
    where versions.product_id is null
),

descriptions as (
    select
        lines.source_system,
        lines.product_id,
        lines.product_description,
        count(*) as line_count
    from {{ ref('int_order_lines') }} as lines
    inner join without_versions
        on
            lines.source_system = without_versions.source_system
            and lines.product_id = without_versions.product_id
    where lines.is_readable
    group by lines.source_system, lines.product_id, lines.product_description
    union all
    select
        events.source_system,
        events.product_id,
        null,
        0
    from {{ ref('int_click_events') }} as events
    inner join without_versions
        on
            events.source_system = without_versions.source_system
            and events.product_id = without_versions.product_id
    where events.reject_reason is null
    group by events.source_system, events.product_id
),

named as (
    select
        source_system,
        product_id,
        product_description as product_name,
        row_number() over (
            partition by source_system, product_id
            order by iff(product_description is null, 1, 0) asc, line_count desc, product_description asc
        ) as place
    from descriptions
),

inferred as (
    select
        source_system,
        product_id,
        product_name
    from named
    where place = 1
),

members as (
    select
        source_system,
        product_id,
        product_name,
        category,
        subcategory,
        brand,
        list_price,
        list_price_currency,
        is_active,
        false as is_inferred,
        valid_from,
        valid_to
    from versions

    union all

    select
        source_system,
        product_id,
        product_name,
        null,
        null,
        null,
        null,
        null,
        null,
        true,
        {{ beginning_of_time() }},
        null
    from inferred
),

keyed as (
    select
        {{ surrogate_key(['members.source_system', 'members.product_id', time_as_text('members.valid_from')]) }}
            as product_key,
        members.*,
        merchandise.is_merchandise
    from members
    inner join merchandise
        on
            members.source_system = merchandise.source_system
            and members.product_id = merchandise.product_id

    union all

    select
        unknown.product_key,
        null,
        null,
        null,
        null,
        null,
        null,
        null,
        null,
        null,
        false,
        {{ beginning_of_time() }},
        null,
        false
    from unknown
)

select
    product_key::varchar(32) as product_key,
    source_system::varchar as source_system,
    product_id::varchar as product_id,
    product_name::varchar as product_name,
    category::varchar as category,
    subcategory::varchar as subcategory,
    brand::varchar as brand,
    list_price::number(18, 4) as list_price,
    list_price_currency::varchar(3) as list_price_currency,
    is_active::boolean as is_active,
    is_merchandise::boolean as is_merchandise,
    is_inferred::boolean as is_inferred,
    valid_from::timestamp_ntz as valid_from,
    valid_to::timestamp_ntz as valid_to,
    valid_to is null as is_current
from keyed
