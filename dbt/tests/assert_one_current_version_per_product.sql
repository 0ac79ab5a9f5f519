select
    source_system,
    product_id,
    count_if(is_current) as current_versions
from {{ ref('dim_products') }}
group by source_system, product_id
having count_if(is_current) <> 1
