{{ touched_members('stg_products', 'product_id', 'products') }}
