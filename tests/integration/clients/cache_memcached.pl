# Cache::Memcached or Cache::Memcached::Fast does every operation it has; each step that was right is named on
# stdout. Arguments: the module, the server's host:port.
use strict;
use warnings;

$| = 1;
my ($module, $server) = @ARGV;
my $fast = $module eq 'Cache::Memcached::Fast';
eval "require $module; 1" or die $@;
my $client = $module->new({ servers => [$server], compress_threshold => 10_000,
                            ($fast ? (io_timeout => 5, connect_timeout => 5) : ()) });

# The prototypes give each call scalar context: in a list a miss is nothing at all.
sub same($$$) { my ($got, $wanted, $what) = @_; die "$what: got '" . ($got // 'undef') . "'" if ($got // "\0") ne $wanted }
sub none($$) { my ($got, $what) = @_; die "$what: got '$got'" if defined $got }
sub yes($$) { my ($got, $what) = @_; die $what unless $got }
sub no_($$) { my ($got, $what) = @_; die $what if $got }

yes($client->set('key', 'value', 100), 'set');
same($client->get('key'), 'value', 'get');
none($client->get('absent'), 'get of an absent key');
yes($client->set('object', { a => [1, 2] }), 'set of an object');
same($client->get('object')->{a}[1], 2, 'get of an object');
print "set\n";

no_($client->add('key', 'other'), 'add of a present key');
yes($client->add('new', 1), 'add');
yes($client->replace('key', 'other'), 'replace');
no_($client->replace('absent', 'other'), 'replace of an absent key');
if ($fast) {
    yes($client->append('key', '>'), 'append');
    yes($client->prepend('key', '<'), 'prepend');
    same($client->get('key'), '<other>', 'get after append');
}
print "add\n";

$client->set('n', 9);
same($client->incr('n'), 10, 'incr');
same($client->decr('n', 4), 6, 'decr');
no_($client->incr('absent'), 'incr of an absent key');
print "count\n";

$client->set("key$_", $_) for 0 .. 99;
my $found = $client->get_multi(map { "key$_" } 0 .. 100);
same(scalar(keys %$found), 100, 'get_multi');
same($found->{key42}, 42, 'get_multi');
print "multi\n";

if ($fast) {
    my $pair = $client->gets('key');
    same($pair->[1], '<other>', 'gets');
    yes($client->cas('key', $pair->[0], 'two'), 'cas');
    no_($client->cas('key', $pair->[0], 'three'), 'cas with an old unique');
    yes($client->touch('key', 200), 'touch');
    same(($client->gat(200, 'key') // ''), 'two', 'gat');
    print "cas\n";
}

$client->set('gone', 'x', time() - 1000);
none($client->get('gone'), 'get of an expired key');
yes($client->delete('key'), 'delete');
no_($client->delete('key'), 'delete of an absent key');
print "expire\n";

my $big = join ',', 1 .. 20_000;
my $random = join '', map { chr int rand 256 } 1 .. 100_000;
for my $value ($big, $random) {
    yes($client->set('big', $value), 'set of a big value');
    same($client->get('big'), $value, 'get of a big value');
}
print "big\n";

if ($fast) {
    my ($version) = values %{ $client->server_versions };
    yes($version =~ /^\d+\.\d+\.\d+$/, 'server_versions');
    my $quiet = $module->new({ servers => [$server], io_timeout => 5 });
    $quiet->set("quiet$_", $_) for 0 .. 99;    # in void context it sends noreply
    $quiet->delete('quiet7');
    none($quiet->get('quiet7'), 'get after a delete without a reply');
    same($quiet->get('quiet99'), 99, 'get after a set without a reply');
    $client->flush_all;
} else {
    my $stats = $client->stats(['misc']);
    yes($stats->{hosts}{$server}{misc}{curr_items} >= 100, 'stats');
    $client->flush_all;
}
none($client->get('n'), 'get after flush_all');
print "flush\n";
