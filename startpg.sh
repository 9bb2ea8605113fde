# own postgres 15 on a socket+port, SQL_ASCII template
D=/tmp/c/faults-scratch/pg/data
B=/usr/lib/postgresql/15/bin
if [ ! -d $D ]; then mkdir -p $D; chown nobody /tmp/c/faults-scratch/pg $D; chmod 777 /tmp/c/faults-scratch; setpriv --reuid=65534 --clear-groups $B/initdb -D $D -U postgres --auth=trust -E SQL_ASCII --locale=C >/dev/null; fi
setpriv --reuid=65534 --clear-groups $B/pg_ctl -D $D -o "-p 54999 -k /tmp/c/faults-scratch/pg -c fsync=off" -l /tmp/c/faults-scratch/pg/log -w start
