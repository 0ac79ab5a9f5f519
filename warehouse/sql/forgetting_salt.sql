select salt
from governance.salts
where purpose = 'forgetting'
