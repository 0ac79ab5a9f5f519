-- To the last minor unit of its currency, and in whole ones where the discount itself is in whole ones.
with file_contents as (
    select
        source_system,
        content_hash,
        modified_at
    from {{ ref('int_file_contents') }}
    where entity = 'order_lines'
),

stated as (
    select
        lines.source_system,
        lines.order_id,
        lines.currency,
        lines.stated_order_discount_amount as amount
    from {{ ref('int_order_lines') }} as lines
    inner join file_contents
        on
            lines.source_system = file_contents.source_system
            and lines._source_hash = file_contents.content_hash
    where lines.reject_reason is null and lines.stated_order_discount_amount is not null
    qualify
        row_number() over (
            partition by lines.source_system, lines.order_id, lines.currency
            order by
                lines.updated_at desc nulls last, file_contents.modified_at desc nulls last, lines._source_file desc,
                lines._source_row desc, lines._source_hash desc
        ) = 1
),

shared as (
    select
        source_system,
        order_id,
        currency,
        sum(order_discount_amount) as amount
    from {{ ref('fact_orders') }}
    group by source_system, order_id, currency
),

sums as (
    select
        coalesce(stated.source_system, shared.source_system) as source_system,
        coalesce(stated.order_id, shared.order_id) as order_id,
        coalesce(stated.currency, shared.currency) as currency,
        coalesce(stated.amount, 0) as stated_amount,
        coalesce(shared.amount, 0) as shared_amount
    from stated
    full outer join shared
        on
            stated.source_system = shared.source_system
            and stated.order_id = shared.order_id
            and stated.currency = shared.currency
),

units as (
    select
        currency_code,
        case minor_units when 0 then 1 when 2 then 100 when 3 then 1000 else 10000 end as units
    from {{ ref('currencies') }}
),

broken_units as (
    select
        facts.source_system,
        facts.order_id,
        facts.currency,
        max(stated.amount) as stated_amount,
        max(facts.order_discount_amount) as shared_amount
    from {{ ref('fact_orders') }} as facts
    inner join stated
        on
            facts.source_system = stated.source_system
            and facts.order_id = stated.order_id
            and facts.currency = stated.currency
    inner join units on facts.currency = units.currency_code
    where
        mod(stated.amount * units.units, 1) = 0
        and mod(facts.order_discount_amount * units.units, 1) <> 0
    group by facts.source_system, facts.order_id, facts.currency
)

select
    source_system,
    order_id,
    currency,
    stated_amount,
    shared_amount
from sums
where stated_amount <> shared_amount
union all
select
    source_system,
    order_id,
    currency,
    stated_amount,
    shared_amount
from broken_units
