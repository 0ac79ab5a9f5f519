{{
    config(
        materialized='replace_touched',
        meta={'keys': ['source_system'], 'touched': 'int_products_to_measure'},
    )
}}

-- depends_on: {{ ref('int_files_to_transform') }}
with touched as (
    select distinct source_system
    from {{ ref('int_products_to_measure') }}
),

last_days as (
    select
        baskets.source_system,
        max(baskets.order_date) as window_end_date,
        dateadd('day', 1 - {{ var('basket_window_days') | int }}, max(baskets.order_date))::date as window_start_date
    from {{ ref('int_baskets') }} as baskets
    inner join touched on baskets.source_system = touched.source_system
    group by baskets.source_system
),

baskets as (
    select
        baskets.source_system,
        baskets.order_id,
        baskets.product_id,
        count(*) over (partition by baskets.source_system, baskets.order_id) as product_count
    from {{ ref('int_baskets') }} as baskets
    inner join last_days
        on
            baskets.source_system = last_days.source_system
            and baskets.order_date >= last_days.window_start_date
),

totals as (
    select
        source_system,
        count(distinct iff(product_count <= {{ var('basket_maximum_products') | int }}, order_id, null)) as order_count,
        count(distinct iff(product_count > {{ var('basket_maximum_products') | int }}, order_id, null))
            as oversized_order_count
    from baskets
    group by source_system
),

considered as (
    select
        source_system,
        order_id,
        product_id
    from baskets
    where product_count <= {{ var('basket_maximum_products') | int }}
),

-- A product in too few orders can't be in a pair that is in enough: numbered, because numbers are paired more quickly.
products as (
    select
        source_system,
        product_id,
        count(*) as order_count,
        row_number() over (order by source_system, product_id) as product_number
    from considered
    group by source_system, product_id
    having count(*) >= {{ var('basket_minimum_orders') | int }}
),

members as (
    select
        dense_rank() over (order by considered.source_system, considered.order_id) as order_number,
        products.product_number
    from considered
    inner join products
        on
            considered.source_system = products.source_system
            and considered.product_id = products.product_id
),

pairs as (
    select
        members.product_number as number_a,
        others.product_number as number_b,
        count(*) as orders_with_both
    from members
    inner join members as others
        on
            members.order_number = others.order_number
            and members.product_number < others.product_number
    group by members.product_number, others.product_number
    having count(*) >= {{ var('basket_minimum_orders') | int }}
),

measured as (
    select
        products.source_system,
        products.product_id as product_id_a,
        others.product_id as product_id_b,
        totals.order_count,
        totals.oversized_order_count,
        products.order_count as orders_with_a,
        others.order_count as orders_with_b,
        pairs.orders_with_both,
        round(
            pairs.orders_with_both * totals.order_count / nullif(products.order_count * others.order_count, 0), 4
        )::number(18, 4) as lift
    from pairs
    inner join products on pairs.number_a = products.product_number
    inner join products as others on pairs.number_b = others.product_number
    inner join totals on products.source_system = totals.source_system
),

ranked as (
    select
        *,
        row_number() over (
            partition by source_system
            order by orders_with_both desc, lift desc, product_id_a asc, product_id_b asc
        ) as pair_rank
    from measured
),

names as (
    select
        source_system,
        product_id,
        product_name
    from {{ ref('dim_products') }}
    where is_current
)

select
    ranked.source_system::varchar as source_system,
    ranked.product_id_a::varchar as product_id_a,
    ranked.product_id_b::varchar as product_id_b,
    names.product_name::varchar as product_name_a,
    other_names.product_name::varchar as product_name_b,
    ranked.pair_rank::number(38, 0) as pair_rank,
    last_days.window_start_date::date as window_start_date,
    last_days.window_end_date::date as window_end_date,
    ranked.order_count::number(38, 0) as order_count,
    ranked.oversized_order_count::number(38, 0) as oversized_order_count,
    ranked.orders_with_a::number(38, 0) as orders_with_a,
    ranked.orders_with_b::number(38, 0) as orders_with_b,
    ranked.orders_with_both::number(38, 0) as orders_with_both,
    round(ranked.orders_with_both / nullif(ranked.order_count, 0), 4)::number(18, 4) as support,
    round(ranked.orders_with_both / nullif(ranked.orders_with_a, 0), 4)::number(18, 4) as confidence_a_to_b,
    round(ranked.orders_with_both / nullif(ranked.orders_with_b, 0), 4)::number(18, 4) as confidence_b_to_a,
    ranked.lift::number(18, 4) as lift
from ranked
inner join last_days on ranked.source_system = last_days.source_system
left join names
    on
        ranked.source_system = names.source_system
        and ranked.product_id_a = names.product_id
left join names as other_names
    on
        ranked.source_system = other_names.source_system
        and ranked.product_id_b = other_names.product_id
where ranked.pair_rank <= {{ var('basket_maximum_pairs') | int }}
